"""The plant at a glance, in a browser: what stations publish, added up and drawn; read-only.

``plant`` keeps what was heard, ``snapshot`` says what of it a page shows, both pure; ``feed``
listens to the broker, ``server`` serves the page of ``page/``. Nothing is published from here, and
what must be kept for longer than a shift is the recorder's.
"""
