"""Many runs at a glance while they change: listed by what their files say, read again only where these changed.

index.py        the runs below some folders, each with how it stands
curves.py       columns of their metrics, to be drawn
reading.py      files that grow, read as far as they are new
listing.py      `cleangpt runs`: the index as a table in a terminal
"""
