"""The report of a run: one HTML file with a debate viewer, and its twin in Markdown.

gather.py (home, run -> Facts) -> verdict.py, sections.py, charts.py (Facts -> what is said and drawn)
viewer_data.py (debates -> packed data), report.html.jinja, viewer.js, viewer.css -> write.py (files)
"""
