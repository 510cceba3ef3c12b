"""Renders the pages: report, comparison, data set; their charts, tables and texts."""
