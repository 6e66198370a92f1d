"""The dashboard: a read-only view of all stations in a browser.

``plant`` stores what the stations report and ``snapshot`` selects what a page shows; both are pure.
``feed`` listens to the broker, ``server`` serves the page in ``page/``. It publishes nothing; the
recorder stores whatever must last longer than a shift.
"""
