"""The dashboard: a view of all stations in a browser.

``plant`` stores what the stations report and ``snapshot`` selects what a page shows; both are pure.
``feed`` listens to the broker, ``server`` serves the page in ``page/``, ``records`` reads the
recorder's database if there is one. It publishes nothing.
"""
