"""The hunt as it is lived: a watched file, its visible tests, the clock and the keys.

commands/live.py ──► loop ──► watch     which text does the file hold now?
                      │  ├──► runner ──► warm ──► once    the visible tests, in a warm process
                      │  └──► keys      what was typed
                      └──► view ──► surface    a block that is redrawn, or plain lines
"""
