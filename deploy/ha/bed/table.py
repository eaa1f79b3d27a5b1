"""A table in text."""

LONGEST = 90  # a cell; the whole of it is in the JSON


def render(head, rows):
    cells = [head] + [[shortened(str(cell)) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    return '\n'.join('  '.join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in cells)


def shortened(text):
    line = ' '.join(text.split())
    return line if len(line) <= LONGEST else line[:LONGEST - 1] + '…'
