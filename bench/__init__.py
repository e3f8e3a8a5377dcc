"""Speed, measured: the platform beside what one would use instead, on the same bytes in one run.

``python -m bench`` starts a broker of its own, fills a topic from the simulator and measures every contender in a fresh
process, in CPU-seconds, so that the figures stand on a busy machine too.

Belongs here: contenders, traffic, measuring and the report. Does not belong here: assertions about correctness beyond
"all contenders wrote the same events" (``chart_platform_tests``).
"""
