"""Many runs compared: tables, statistics, pictures, a page.

run.py           one command of eval/report.py
collect.py       find run directories, and read each, whatever state it is in
columns.py       the columns of a metrics file
arrival.py       when runs arrive at a share of right answers
differences.py   the keys that tell runs apart, and those that follow them
compare.py       settings over their seeds, and which did best by which metric
estimate.py      what a few seeds say about all: mean, spread, interval, and curves with their band
words.py         a comparison in sentences
tables.py        a comparison as tables: Markdown and CSV
draw.py          its pictures
page.py          its page, from page.html
write.py         all files of a report, and its words on the console
"""
