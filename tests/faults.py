"""The fault list of the numerics contract: each number, clause by clause, with the tests that prove it.

``python tests/faults.py`` prints it as a table. A test (`test_every_fault_has_its_tests` in test_faults.py) fails if a
number is missing, if a clause has no test, or if a test named here does not exist.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

#: Number: {clause: tests}; a test is named as in test_faults.py, or with its module.
FAULTS: dict[int, dict[str, tuple[str, ...]]] = {
    1: {
        "a NaN logit makes that row's outputs NaN, the others are untouched": (
            *("test_rows", "test_01_nan_makes_its_row_nan_and_no_other"),
            "test_01_nan_makes_its_element_nan_and_no_other",
        ),
        "the mean is NaN": ("test_rows", "test_01_nan_makes_its_row_nan_and_no_other"),
    },
    2: {
        "a logit of -inf: p = 0, gradient exactly 0": ("test_rows", "test_02_a_class_that_cannot_be_changes_no_other"),
        "the other classes are unaffected": ("test_02_a_class_that_cannot_be_changes_no_other",),
        "a masked true class: loss +inf, gradient -1 there": ("test_rows",),
    },
    3: {
        "a row of -inf: logsumexp -inf; softmax, loss and gradient NaN": ("test_rows",),
        "a row that where= masks whole: 0": ("test_03_a_row_masked_out_whole_is_0",),
    },
    4: {
        "one +inf is the limit: softmax, logsumexp, loss and gradient": ("test_rows",),
        "log-softmax 0 there and -inf elsewhere, Hessian 0": ("test_04_one_infinity_is_the_limit",),
        "several: NaN": ("test_rows", "test_04_one_infinity_is_the_limit"),
    },
    5: {
        "a float32 row loss beyond the type is +inf in 'none', finite in the mean; p = 0; never NaN": ("test_rows",),
        "float64 overflow is +inf": ("test_05_a_float64_loss_that_overflows_is_infinite",),
    },
    6: {"[-3e38] * 3 has the loss ln 3": ("test_rows",)},
    7: {
        "soft label 0 times a logit of -inf is 0": ("test_07_a_soft_label_of_0_is_0_at_a_logit_of_minus_infinity",),
        "KL with p = 0 is 0, with q = 0 < p +inf": ("test_07_divergences_where_a_probability_is_0",),
    },
    8: {"BCE at +-inf: right 0 and gradient 0, wrong +inf and gradient +-1": ("test_points",)},
    9: {
        "squares and differences that overflow on the way": (
            *("test_points", "test_09_what_can_be_represented_is_right_though_parts_of_it_overflow"),
        ),
        "float32: not before it is weighed, or divided for the mean": (
            "test_09_what_is_beyond_the_range_of_a_float_until_it_is_weighed_or_divided",
        ),
        "the same in a row's sum of soft labels": ("test_families.test_within_the_bounds",),
    },
    10: {
        "NaN in an ignored, zero-weight or masked entry reaches nothing": (
            *("test_10_what_counts_for_nothing_is_not_read", "test_10_weight_0_silences_an_infinite_loss"),
        ),
        "weight 0 times an infinite loss is 0": ("test_10_weight_0_silences_an_infinite_loss",),
    },
    11: {
        "-0.0 and 0.0 give the same": (
            *("test_rows", "test_points", "test_11_zeros_of_both_signs_give_the_same"),
            "test_11_zeros_of_both_signs_give_functions_the_same",
        )
    },
    12: {
        "IndexError with the first row, the value and how many; nothing written; never wrapped": (
            *("test_12_labels_out_of_range", "test_12_the_first_beyond_the_classes_is_out_of_range"),
            *("test_interface.test_labels_out_of_range", "test_interface.test_labels_out_of_range_over_several_axes"),
        ),
        "check=False gives NaN": ("test_12_labels_out_of_range", "test_capi.test_a_label_out_of_range_gives_nan"),
        "labels changed meanwhile cause no wild read": ("test_12_labels_that_another_thread_changes_meanwhile",),
    },
    13: {
        "any integer width, unsigned beyond 2^63, bool; floating labels are refused": (
            *("test_13_labels_of_any_integer_dtype", "test_12_labels_out_of_range"),
            "test_interface.test_labels_of_any_integer_dtype",
        )
    },
    14: {
        "all ignored, N = 0, no weight: see empty; 'sum' is 0; 'none' is 0, or an empty array": (
            *("test_14_nothing_to_take_the_mean_of", "test_interface.test_nothing_to_take_the_mean_of"),
        ),
        "with soft labels no row is ignored": ("test_14_with_soft_labels_no_row_is_ignored",),
    },
    15: {
        "taken as weights, not normalised": ("test_15_soft_labels_are_not_normalised",),
        "negative or NaN ones propagate; check='distribution' refuses them": (
            *("test_15_soft_labels_are_taken_as_they_stand", "test_interface.test_distributions_pass_the_check"),
        ),
    },
    16: {
        "more than 2^31 elements": (*("test_16_more_than_2_to_the_31_elements", "test_16_wide_rows_by_strides_of_0"),),
        "(0, C) empty; (N, 0): logsumexp -inf, cross-entropy ValueError; C = 1: loss 0": (
            *("test_16_lengths_of_0_and_1", "test_16_functions_of_nothing", "test_backends_jobs.test_empty_and_long"),
        ),
    },
    17: {
        "operands, weights or out of a wrong shape, dtype or writability: an error before any write": (
            "test_17_wrong_operands_are_refused_before_anything_is_written",
            "test_17_wrong_options_are_refused_before_anything_is_written",
            "test_17_wrong_buffers_of_functions_are_refused",
            "test_interface.test_bad_buffers_are_refused_and_nothing_is_written",
        ),
        "two outputs that overlap": (
            *("test_17_wrong_operands_are_refused_before_anything_is_written",),
            "test_interface.test_overlaps_among_buffers_and_operands",
        ),
    },
    18: {
        "tails never read past the ends (guard pages, every C)": ("test_18_nothing_is_touched_beyond_the_ends",),
        "structured fields, byte order, negative and zero strides": (
            "test_registry.test_every_layout_and_dtype_gives_the_same_bits",
            "test_registry.test_zero_strides_give_the_same_bits",
            "test_registry.test_one_hot_targets_and_wide_rows_in_any_layout",
        ),
    },
    19: {
        "masked, complex, object, datetime, matrix, None: a TypeError that says why": (
            *("test_19_arrays_that_are_none", "test_19_arrays_that_are_none_of_functions_and_options"),
        )
    },
    20: {
        "MemoryError leaves nothing half done and no thread behind": (
            "test_20_without_memory_nothing_is_left_half_done",
        )
    },
    21: {
        "fork after a threaded call; fork, spawn, forkserver": (
            *("test_21_processes_after_a_threaded_call", "test_threads.test_a_forked_child_makes_its_own_pool"),
        ),
        "joblib workers": ("test_21_joblib_workers",),
        "calls from many Python threads": (
            *("test_21_many_threads_at_once", "test_threads.test_calls_from_many_threads_at_once"),
        ),
        "a nested call is serial": ("test_21_a_nested_call_is_serial", "test_threads.test_a_nested_call_is_serial"),
        "n_threads 0, negative, huge": ("test_21_any_number_of_threads",),
        "a thread that cannot start: serial, same bits": ("test_21_threads_that_cannot_start",),
    },
    22: {
        "Ctrl-C within a second; afterwards everything is usable": (
            *("test_22_ctrl_c", "test_threads.test_ctrl_c_acts_within_a_second"),
        )
    },
    23: {
        "LOSSFAST_ISA beyond the CPU: refused with a message, never SIGILL": (
            *("test_23_an_instruction_set_that_is_not_there", "test_23_nothing_runs_that_the_processor_lacks"),
        ),
        "the system's XSAVE state is checked": ("test_23_nothing_runs_that_the_processor_lacks",),
        "no higher instruction in baseline objects": ("test_23_nothing_runs_that_the_processor_lacks",),
        "__FAST_MATH__ is refused at compile time": ("test_23_fast_math_is_refused_at_compile_time",),
    },
    24: {
        "numba absent, broken, or its cache read-only: numpy, said once": (
            "test_24_numba_absent_broken_or_without_a_cache",
            "test_backends.test_falling_back_warns_once",
        )
    },
    25: {
        "never unpickled": ("test_cli.test_bad_file",),
        "header and size are checked before anything is allocated": ("test_25_a_header_that_lies_costs_no_memory",),
        "truncated, wrong shape, ragged, unreadable: one line on stderr, exit 2": (
            *("test_cli.test_bad_file", "test_cli.test_bad_column", "test_cli.test_bad_usage"),
            *("test_cli.test_unwritable_output", "test_25_a_path_that_cannot_be_read"),
        ),
        "no output left half written": (
            *("test_cli.test_an_error_midway_leaves_what_was_there", "test_cli.test_a_signal_leaves_nothing_behind"),
        ),
    },
    26: {
        "parameters, reduction and axis outside their domain: ValueError with the value": (
            *("test_26_parameters_outside_their_domain", "test_interface.test_what_is_refused"),
        ),
        "elements outside their domain: ValueError with value, place and number; NaN is in every one": (
            *("test_26_elements_outside_their_domain", "test_26_an_element_that_is_nan_is_in_every_domain"),
        ),
    },
}

HERE = Path(__file__).parent


@cache
def tests_in(module: str) -> tuple[str, ...]:
    """The names of a module's tests."""
    tree = ast.parse((HERE / f"{module}.py").read_text())
    return tuple(node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"))


def missing() -> list[str]:
    """What is wrong with the table: numbers or clauses without tests, tests that are not there, or not in the table."""
    wrong = [f"{number} has no test" for number in range(1, 27) if not FAULTS.get(number)]
    named: set[str] = set()
    for number, clauses in FAULTS.items():
        for clause, tests in clauses.items():
            if not tests:
                wrong.append(f"{number}: {clause!r} has no test")
            for test in tests:
                module, _, name = test.rpartition(".")
                if name not in tests_in(module or "test_faults"):
                    wrong.append(f"{number}: there is no test {test}")
                named.add(test)
    numbered = (name for name in tests_in("test_faults") if name.split("_")[1].isdigit())
    return wrong + [f"{name} is not in the table" for name in numbered if name not in named]


if __name__ == "__main__":
    for number, clauses in sorted(FAULTS.items()):
        for clause, tests in clauses.items():
            print(f"{number:>2}  {clause}")
            for test in tests:
                print(f"      {test}")
    raise SystemExit("\n".join(missing()) or 0)
