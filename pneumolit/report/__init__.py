"""The only place that draws or formats: figures, tables, pages."""
