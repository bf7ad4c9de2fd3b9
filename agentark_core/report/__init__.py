"""The report of a run: one HTML file with a debate viewer, and its twin in Markdown.

gather.py and debate_sets.py: home and run -> Facts. verdict.py, sections.py, provenance.py, charts.py: what is said and
drawn. viewer_data.py: debates -> packed data. write.py: files, from report.html.jinja, viewer.js and viewer.css.
"""
