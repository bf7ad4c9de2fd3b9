"""The commands of `agentark`, by what they do. Each imports what it needs when it runs, so that --help stays fast."""
