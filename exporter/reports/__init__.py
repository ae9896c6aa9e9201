"""Reports on streams and groups.

``timeline.py`` says what happened, and ``recorder.py`` records it in memory. ``assessment.py`` computes a report
(``report.py``) from it, which ``presentation.py`` shows. ``service.py`` connects them with the store and a worker
thread.
"""
