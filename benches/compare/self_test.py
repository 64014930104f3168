"""Canned samples for the parsers and the arithmetic. Run by `run --self-test`."""

import unittest

import measure
import peers
import report

WRK_FINE = """Running 3s test @ http://127.0.0.1:8080/small
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.70ms  522.11us  12.01ms   91.20%
    Req/Sec    37.56k     1.02k   39.11k    80.00%
  Latency Distribution
     50%    1.67ms
     75%  812.00us
     90%    2.01ms
     99%    1.20s
  112063 requests in 3.00s, 31.03MB read
Requests/sec:  37354.33
Transfer/sec:     10.34MB
"""

WRK_ERRORS = WRK_FINE.replace(
    "Requests/sec:",
    "  Socket errors: connect 0, read 12, write 0, timeout 3\n"
    "  Non-2xx or 3xx responses: 451\n"
    "Requests/sec:",
)

# The name of the process is chosen to mislead a parser that splits on spaces or the first `)`.
STAT = (
    "4242 (a (b) c 9) S 17 4242 4242 0 -1 4194560 900 0 0 0 150 50 7 3 20 0 4 0 264171 3133440 256 "
    "18446744073709551615 1 1 0 0 0 0 0 4096 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0"
)

PROC_STAT = """cpu  900 0 900 9000 0 0 0 0 0 0
cpu0 100 5 200 8000 7 11 13 20 0 0
cpu1 800 0 700 1000 0 0 0 0 0 0
cpu10 1 1 1 1 1 1 1 1 0 0
"""

# Ticks of the load core fell short of what its processes say they used: no share is below zero.
SPENT = {"wall": 3.0, "peer": 2.7, "load": 1.5, "proxy_core": 3.0, "load_core": 1.4}


def figures(cpu_us, rps=1000.0):
    same = dict.fromkeys(report.MEDIANS, 1.0)
    return {**same, "cpu_us": cpu_us, "rps": rps, "errors": {}}


class Wrk(unittest.TestCase):
    def test_report_is_read_in_microseconds_and_bytes(self):
        read = measure.parse_wrk(WRK_FINE)

        self.assertEqual((read.requests, read.seconds), (112063, 3.0))
        self.assertEqual((read.p50_us, read.p99_us), (1670.0, 1_200_000.0))
        self.assertAlmostEqual(read.bytes_read, 31.03 * 2**20)
        self.assertEqual(read.errors, {})

    def test_errors_of_each_kind_are_counted_and_zeros_left_out(self):
        read = measure.parse_wrk(WRK_ERRORS)

        self.assertEqual(read.errors, {"read": 12, "timeout": 3, "status": 451})

    def test_anything_else_is_refused(self):
        for text in ("", "unable to connect to 127.0.0.1:1 Connection refused\n"):
            with self.assertRaises(measure.BadOutput):
                measure.parse_wrk(text)

    def test_unknown_unit_is_refused(self):
        with self.assertRaises(measure.BadOutput):
            measure.parse_time_us("3fortnights")

    def test_slice_without_a_request_is_an_error(self):
        idle = measure.Wrk(0, 3.0, 0.0, 0.0, 0.0, {})

        told = measure.figures(idle, SPENT, 0)

        self.assertEqual(told["errors"], {"no_request_answered": 1})


class Proc(unittest.TestCase):
    def test_cpu_counts_user_system_and_reaped_children(self):
        row = measure.parse_stat(STAT, ticks_per_second=100, page_bytes=4096)

        self.assertEqual((row.pid, row.parent), (4242, 17))
        self.assertAlmostEqual(row.cpu_seconds, 2.10)
        self.assertEqual(row.rss_bytes, 256 * 4096)

    def test_tree_holds_grandchildren_and_no_strangers(self):
        def row(pid, parent):
            return measure.Process(pid, parent, 1.0, 1)

        table = [row(4, 3), row(1, 0), row(3, 2), row(2, 1), row(9, 1)]

        self.assertEqual({one.pid for one in measure.tree(2, table)}, {2, 3, 4})

    def test_core_time_takes_its_own_line_and_leaves_interrupts_out(self):
        self.assertAlmostEqual(measure.parse_core_seconds(PROC_STAT, 0, 100), 3.25)
        with self.assertRaises(measure.BadOutput):
            measure.parse_core_seconds(PROC_STAT, 7, 100)

    def test_figures_are_per_request_and_per_core(self):
        read = measure.parse_wrk(WRK_FINE)

        told = measure.figures(read, SPENT, 2**20)

        self.assertAlmostEqual(told["cpu_us"], 2.7e6 / 112063)
        self.assertAlmostEqual(told["busy"], 0.9)
        self.assertAlmostEqual(told["load_busy"], 0.5)
        self.assertAlmostEqual(told["others_busy"], 0.1)
        self.assertEqual(told["load_others_busy"], 0.0)
        self.assertEqual(told["rss_mib"], 1.0)


class Arithmetic(unittest.TestCase):
    def test_ratio_is_the_median_of_the_rounds_and_not_of_the_peers(self):
        # Medians of the peers would give 30 ÷ 20 = 1.5.
        rounds = [
            {"a": figures(10.0), "b": figures(10.0)},
            {"a": figures(30.0), "b": figures(20.0)},
            {"a": figures(40.0), "b": figures(50.0)},
        ]

        ratio = report.ratios(rounds, "a", "b")["cpu_us"]

        self.assertEqual(ratio, {"median": 1.0, "min": 0.8, "max": 1.5})

    def test_even_count_takes_the_middle_of_two(self):
        self.assertEqual(report.spread([1.0, 4.0, 2.0, 3.0])["median"], 2.5)

    def test_summary_sets_every_peer_against_every_other(self):
        told = report.summarise([{"a": figures(10.0), "b": figures(20.0)}])

        self.assertEqual(told["medians"]["b"]["cpu_us"], 20.0)
        self.assertEqual(told["ratios"]["a"]["b"]["cpu_us"]["median"], 0.5)
        self.assertEqual(told["ratios"]["b"]["a"]["cpu_us"]["median"], 2.0)

    def test_zero_below_the_line_gives_no_ratio(self):
        rounds = [{"a": figures(10.0), "b": figures(0.0)}]

        self.assertNotIn("cpu_us", report.ratios(rounds, "a", "b"))

    def test_errors_are_told_with_their_place(self):
        bad = {**figures(10.0), "errors": {"status": 451}}
        case = {"name": "small", "rounds": [{"a": figures(1.0)}, {"a": bad}]}

        self.assertEqual(report.errors_of([case]), ["small, round 2, a: 451 × status"])


class Templates(unittest.TestCase):
    def test_values_are_filled_in_and_other_signs_left_alone(self):
        self.assertEqual(peers.fill('"@type": @PORT@ a@b', {"PORT": 80}), '"@type": 80 a@b')

    def test_missing_value_is_refused(self):
        with self.assertRaises(peers.PeerFailed):
            peers.fill("@PORT@", {})

    def test_free_ports_differ(self):
        self.assertEqual(len(set(peers.free_ports(20))), 20)


def main():
    """Runs all tests: 0 if they pass, else 1."""
    suite = unittest.defaultTestLoader.loadTestsFromName(__name__)
    return 0 if unittest.TextTestRunner().run(suite).wasSuccessful() else 1
