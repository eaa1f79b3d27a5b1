"""Verdicts on a control plane after the fact, from journals alone: the store's rows, what its database saw of
leadership (lease_witness.py), and what a receiver was told (told_sink.py). Pure: rows in, counts out. Each counter
under `wrong` must be 0; `findings` says the first few in words. Results and transitions are `fleet check`'s.

    told(outbox, alerts, events, journal, receivers)   promise C6
    raised(transitions, alerts)                        every confirmed failure is an alert, and nothing else is
    terms(audit, leases, names)                        promise C9: one leader at a time, epochs rise
    writes(writes, leases, names)                      promise C9: who does not lead writes nothing that leaders write
"""
MOST_FINDINGS = 20
DELIVERED = 2
FIRED, RESOLVED = 2, 3
OK, FAILING = 1, (2, 3, 4)


class Verdict:
    def __init__(self, *wrong):
        self.seen, self.wrong, self.findings = {}, dict.fromkeys(wrong, 0), []

    def count(self, what, number=1):
        self.seen[what] = self.seen.get(what, 0) + number

    def blame(self, what, finding):
        self.wrong[what] += 1
        if len(self.findings) < MOST_FINDINGS:
            self.findings.append(f'{what}: {finding}')

    @property
    def good(self):
        return not any(self.wrong.values())

    def __str__(self):
        counts = ', '.join(f'{what} {number}' for what, number in {**self.seen, **self.wrong}.items())
        return '\n'.join([counts, *self.findings])


def told(outbox, alerts, events, journal, receivers):
    """Each alert's transitions stand in the outbox for each receiver; each row of it reached its receiver, in order
    for one alert, under one key; and nobody was told what the store does not know. `receivers` were there from the
    first alert on. Being told the same again is allowed, and counted: deliveries are at least once.
    """
    verdict = Verdict('forgotten', 'too_many', 'untold', 'out_of_order', 'unstable_key', 'unknown')
    verdict.count('alerts', len(alerts))
    verdict.count('outbox_rows', len(outbox))
    _expect_rows(verdict, outbox, alerts, events, receivers)
    first = _first_told(verdict, {row['id']: row for row in outbox}, journal)
    for row in outbox:
        if row['id'] not in first:
            verdict.blame('untold', f'{_key(row)} for {row["receiver"]}, state {row["state"]}')
    newest = {}
    for number in sorted(first, key=lambda number: first[number]['n']):
        entry = first[number]
        about = entry['receiver'], entry['dedup']
        if number < newest.get(about, 0):
            verdict.blame('out_of_order', f'{entry["key"]} came to {entry["receiver"]} after {newest[about]}')
        newest[about] = max(number, newest.get(about, 0))
    return verdict


def _key(row):
    return f'{row["alert_id"]}/{row["event"]}/{row["id"]}'


def _expect_rows(verdict, outbox, alerts, events, receivers):
    """What each alert's own trail says that receivers are owed, against the outbox."""
    rows = {}
    for row in outbox:
        rows.setdefault((row['alert_id'], row['receiver']), []).append(row['event'])
    severities, inhibited = {}, set()
    for event in events:
        if event['what'] == 'severity':
            severities[event['alert_id']] = severities.get(event['alert_id'], 0) + 1
        elif event['what'] == 'inhibited':
            inhibited.add(event['alert_id'])
    for alert in alerts:
        fired = alert['fired_at'] is not None
        quiet = bool(alert['inhibited_by']) and not alert['told']
        owed = {'raised': int(fired and not quiet),
                'resolved': int(fired and not quiet and alert['state'] == RESOLVED),
                # Of one that was raised late nobody was told what had changed before.
                'changed': 0 if quiet or alert['id'] in inhibited else severities.get(alert['id'], 0)}
        for receiver in receivers:
            have = rows.get((alert['id'], receiver), [])
            for event, number in owed.items():
                if have.count(event) < number:
                    verdict.blame('forgotten', f'{event} of {alert["name"]} ({alert["id"]}) for {receiver}')
                if have.count(event) > number and not (event == 'changed' and alert['id'] in inhibited):
                    verdict.blame('too_many', f'{event} of {alert["name"]} ({alert["id"]}) for {receiver}')


def _first_told(verdict, rows, journal):
    """By row of the outbox, the first entry that told of it."""
    first = {}
    for entry in journal:
        verdict.count('told')
        number = int(entry['key'].rsplit('/', 1)[-1]) if entry['key'] else 0
        row = rows.get(number)
        if row is None or (row['receiver'], row['event']) != (entry['receiver'], entry['event']):
            verdict.blame('unknown', f'{entry["key"]} came to {entry["receiver"]}')
        elif entry['dedup'] != row['alert_id'] or entry['key'] != _key(row):
            verdict.blame('unstable_key', f'{entry["key"]}, dedup key {entry["dedup"]}, is {_key(row)}')
        elif number in first:
            verdict.count('told_again')
        else:
            first[number] = entry
    return first


def raised(transitions, alerts):
    """`transitions` by id. A stretch from a confirmed failure to a confirmed OK is one alert that fired."""
    verdict = Verdict('unraised', 'unfounded', 'not_resolved')
    failing, stretches = {}, {}
    for row in transitions:
        about = f'check/{row["agent"]}/{row["check_id"]}'
        if not row['hard']:
            continue
        if row['to_status'] in FAILING and about not in failing:
            failing[about] = row['id']
            stretches.setdefault(about, []).append(row['id'])
        elif row['to_status'] == OK:
            failing.pop(about, None)
    fired = {}
    for alert in alerts:
        if alert['fired_at'] is not None and alert['key'].startswith('check/'):
            fired.setdefault(alert['key'], []).append(alert)
    for about in stretches.keys() | fired.keys():
        want, have = len(stretches.get(about, [])), fired.get(about, [])
        verdict.count('failures', want)
        if want > len(have):
            verdict.blame('unraised', f'{about} failed {want} times and has {len(have)} alerts')
        if want < len(have):
            verdict.blame('unfounded', f'{about} failed {want} times and has {len(have)} alerts')
        still = sum(alert['state'] == FIRED for alert in have)
        if want == len(have) and still != int(about in failing):
            verdict.blame('not_resolved', f'{about}: {still} alerts fire')
    return verdict


def terms(audit, leases, names):
    """`audit`: the entries leader.take in order; `leases`: each change of the lease row; `names`: {id: writer}."""
    verdict = Verdict('epoch_not_risen', 'overlap', 'not_audited', 'foreign_lease')
    taken = {}
    before = 0
    for entry in audit:
        epoch = int(entry['detail'].split()[1].rstrip(':'))
        if epoch <= before:
            verdict.blame('epoch_not_risen', f'audit entry {entry["sequence"]} takes term {epoch} after {before}')
        before, taken[epoch] = epoch, entry['subject']
    for row in leases:
        if row['epoch'] < row['epoch_before']:
            verdict.blame('epoch_not_risen', f'lease {row["n"]}: term {row["epoch"]} after {row["epoch_before"]}')
        changed = row['epoch'] != row['epoch_before']
        free = not row['holder_before'] or row['until_before'] <= row['at'] or row['holder'] == row['holder_before']
        if changed:
            verdict.count('terms')
            if not free:
                verdict.blame('overlap', f'{row["holder"]} took term {row["epoch"]} '
                              f'{(row["until_before"] - row["at"]) / 1e6:.3f} s before {row["holder_before"]} was over')
            if taken.get(row['epoch']) != row['holder']:
                verdict.blame('not_audited', f'term {row["epoch"]} of {row["holder"]}')
        elif row['holder'] and row['holder'] != row['holder_before']:
            verdict.blame('overlap', f'{row["holder"]} holds term {row["epoch"]} of {row["holder_before"]}')
        whose = row['holder'] or row['holder_before']
        if names.get(whose, row['writer']) != row['writer']:
            verdict.blame('foreign_lease', f'{row["writer"]} wrote the lease of {names[whose]}')
    return verdict


def writes(rows, leases, names):
    """`rows`: alike statements counted together, each with the term that the lease was in; `names`: {id: writer}."""
    verdict = Verdict('stale')
    # A lease that was given back names nobody, and its term goes on until the next one begins.
    leader = {row['epoch']: row['holder'] for row in leases if row['holder']}
    for row in rows:
        verdict.count('leaders_writes', row['count'])
        whose = names.get(leader.get(row['epoch'], row['holder']))
        if whose != row['writer']:
            verdict.blame('stale', f'{row["writer"]}: {row["count"]} × {row["what"]} in term {row["epoch"]} of {whose}')
    return verdict
