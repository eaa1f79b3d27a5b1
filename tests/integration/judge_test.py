"""The judge sees each fault in a history that is otherwise right, and nothing wrong in the right one."""
import copy
import sys
import unittest

from harness import SUPPORT, main

sys.path.insert(0, SUPPORT)
# pylint: disable=wrong-import-position
import judge  # noqa: E402

SECOND = 1_000_000


def alert(name, key, state=judge.RESOLVED, fired_at=1, inhibited_by='', told=1):
    return {'id': name, 'key': key, 'name': f'alert {name}', 'state': state, 'fired_at': fired_at,
            'inhibited_by': inhibited_by, 'told': told}


class Told(unittest.TestCase):
    """Two receivers, and four alerts: one told and over, one that fires, one inhibited, one false alarm."""
    RECEIVERS = ('mail', 'hook')

    def setUp(self):
        self.alerts = [alert('a', 'check/x/1'), alert('b', 'check/x/2', judge.FIRED),
                       alert('c', 'check/y/1', inhibited_by='z', told=0),
                       alert('d', 'check/y/2', fired_at=None, told=0)]
        self.events = [{'alert_id': 'a', 'what': what} for what in ('firing', 'severity', 'resolved')]
        self.events += [{'alert_id': 'c', 'what': 'inhibited'}, {'alert_id': 'c', 'what': 'severity'}]
        self.outbox, self.journal = [], []
        for receiver in self.RECEIVERS:
            for which, event in (('a', 'raised'), ('b', 'raised'), ('a', 'changed'), ('a', 'resolved')):
                row = {'id': len(self.outbox) + 1, 'alert_id': which, 'receiver': receiver, 'event': event, 'state': 2}
                self.outbox.append(row)
                self.tell(row)

    def tell(self, row, at=None):
        self.journal.insert(len(self.journal) if at is None else at, {
            'receiver': row['receiver'], 'key': f'{row["alert_id"]}/{row["event"]}/{row["id"]}',
            'event': row['event'], 'dedup': row['alert_id']})

    def judge(self):
        for number, entry in enumerate(self.journal):
            entry['n'] = number
        return judge.told(self.outbox, self.alerts, self.events, self.journal, self.RECEIVERS)

    def expect(self, **wrong):
        verdict = self.judge()
        self.assertEqual({what: number for what, number in verdict.wrong.items() if number}, wrong, verdict)

    def test_all_is_well(self):
        self.assertTrue(self.judge().good, self.judge())
        self.assertEqual(self.judge().seen, {'alerts': 4, 'outbox_rows': 8, 'told': 8})

    def test_being_told_again_is_allowed_even_late(self):
        self.tell(self.outbox[0])
        self.assertTrue(self.judge().good, self.judge())
        self.assertEqual(self.judge().seen['told_again'], 1)

    def test_a_row_that_nobody_was_told_of(self):
        del self.journal[2]
        self.expect(untold=1)

    def test_a_row_that_was_never_written(self):
        for event in ('resolved', 'changed'):
            with self.subTest(event):
                self.setUp()
                gone = next(row for row in self.outbox if row['event'] == event)
                self.outbox.remove(gone)
                self.journal.pop(gone['id'] - 1)
                self.expect(forgotten=1)

    def test_an_alert_that_fired_and_was_never_told(self):
        self.alerts.append(alert('e', 'check/z/1', judge.FIRED, told=0))
        self.expect(forgotten=2)

    def test_one_transition_told_twice_over(self):
        row = dict(self.outbox[0], id=99)
        self.outbox.append(row)
        self.tell(row)
        self.expect(too_many=1)

    def test_an_inhibited_alert_that_was_told(self):
        row = dict(self.outbox[0], id=99, alert_id='c')
        self.outbox.append(row)
        self.tell(row)
        self.expect(too_many=1)

    def test_a_resolve_that_came_before_its_raise(self):
        last = self.journal.pop(3)
        self.journal.insert(0, last)
        self.expect(out_of_order=2)

    def test_a_message_that_the_store_does_not_know(self):
        self.tell(dict(self.outbox[0], id=99))
        self.expect(unknown=1)

    def test_a_message_that_came_to_another_receiver(self):
        self.tell(dict(self.outbox[0], receiver='hook'))
        self.expect(unknown=1)

    def test_a_key_that_changed(self):
        self.journal[1]['dedup'] = 'another'
        self.expect(unstable_key=1, untold=1)


class Raised(unittest.TestCase):
    def setUp(self):
        steps = [(3, 0), (3, 1), (5, 1), (2, 1), (1, 1), (3, 0), (1, 1), (3, 1)]
        self.transitions = [{'id': number, 'agent': 'x', 'check_id': 1, 'to_status': to, 'hard': hard}
                            for number, (to, hard) in enumerate(steps)]
        self.alerts = [alert('a', 'check/x/1'), alert('b', 'check/x/1', judge.FIRED),
                       alert('c', 'check/x/1', fired_at=None), alert('d', 'absent/x')]

    def expect(self, **wrong):
        verdict = judge.raised(self.transitions, self.alerts)
        self.assertEqual({what: number for what, number in verdict.wrong.items() if number}, wrong, verdict)

    def test_all_is_well(self):
        self.expect()

    def test_a_failure_without_an_alert(self):
        del self.alerts[0]
        self.expect(unraised=1)

    def test_an_alert_without_a_failure(self):
        self.alerts.append(alert('e', 'check/y/7'))
        self.expect(unfounded=1)

    def test_an_alert_that_outlives_its_failure(self):
        self.alerts[0]['state'] = judge.FIRED
        self.expect(not_resolved=1)


class Terms(unittest.TestCase):
    NAMES = {'A': 'one', 'B': 'two'}

    def setUp(self):
        self.leases, self.audit = [], []
        self.change(1, 'A', 0, 3)
        self.change(1, 'A', 1, 4)
        self.change(2, 'B', 4, 7)
        self.change(2, '', 5, 0, writer='two')  # given back
        self.change(3, 'A', 5, 8)
        self.change(4, 'A', 6, 9)  # a later life of the same

    def change(self, epoch, holder, at, until, writer=None):
        before = self.leases[-1] if self.leases else {'epoch': 0, 'holder': '', 'until': 0}
        if epoch != before['epoch']:
            self.audit.append({'sequence': len(self.audit) + 1, 'subject': holder, 'detail': f'term {epoch}: so'})
        self.leases.append({
            'n': len(self.leases), 'writer': writer or self.NAMES[holder], 'at': at * SECOND, 'epoch': epoch,
            'holder': holder, 'until': until * SECOND, 'epoch_before': before['epoch'],
            'holder_before': before['holder'], 'until_before': before['until']})

    def expect(self, **wrong):
        verdict = judge.terms(self.audit, self.leases, self.NAMES)
        self.assertEqual({what: number for what, number in verdict.wrong.items() if number}, wrong, verdict)

    def test_all_is_well(self):
        self.expect()
        self.assertEqual(judge.terms(self.audit, self.leases, self.NAMES).seen, {'terms': 4})

    def test_a_term_that_began_before_the_last_was_over(self):
        self.leases[2]['at'] -= SECOND // 2
        self.expect(overlap=1)

    def test_a_term_that_changed_hands(self):
        self.change(4, 'B', 10, 13)
        self.expect(overlap=1)

    def test_an_epoch_that_fell(self):
        self.leases[-1]['epoch_before'] = 9
        self.audit[-1]['detail'] = 'term 2: so'
        self.expect(epoch_not_risen=2, not_audited=2)

    def test_a_term_that_the_audit_does_not_know(self):
        del self.audit[1]
        self.expect(not_audited=1)

    def test_a_lease_written_by_another(self):
        self.leases[1]['writer'] = 'two'
        self.expect(foreign_lease=1)

    def test_a_write_of_an_older_term(self):
        rows = [{'writer': 'one', 'what': 'INSERT outbox', 'epoch': 1, 'holder': 'A', 'count': 5},
                {'writer': 'two', 'what': 'UPDATE outbox', 'epoch': 2, 'holder': '', 'count': 2}]
        self.assertTrue(judge.writes(rows, self.leases, self.NAMES).good)
        late = copy.deepcopy(rows[0])
        late.update(epoch=2, holder='B')
        verdict = judge.writes(rows + [late], self.leases, self.NAMES)
        self.assertEqual(verdict.wrong, {'stale': 1}, verdict)


if __name__ == '__main__':
    main()
