"""Notices to people who look at no screen: what is wrong at a station, once, and when it is over.

``conditions`` decides, purely; ``sending`` sends, by Apprise; ``service`` listens to the broker.
Install with ``pip install '.[notices]'`` in a clone.
"""
