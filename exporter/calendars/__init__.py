"""Event calendars: expand the events of iCalendar files, in a short-lived process with limits.

A calendar may come from anyone, and one recurrence rule can ask for billions of events. A thread that computes them
cannot be stopped, but a process can. It also returns the memory of the libraries, which the exporter never imports.
"""
