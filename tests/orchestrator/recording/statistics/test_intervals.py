import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import t

from orchestrator.recording.statistics.intervals import Interval, separate_difference
from orchestrator.recording.statistics.outcomes import Scale
from tests.builders.outcomes import difference_of, interval_of, outcomes_of

SIMULATIONS = 1_000
Answers = NDArray[np.bool_]


def test_worked_example_follows_the_formula() -> None:
    correct = np.array([[1, 1, 0, 1], [1, 0, 0, 1], [1, 1, 0, 1]])
    repeats = 1 / 48 / 3  # s2 of 3/4, 1/2, 3/4
    images = 2 / 9 / 4  # s2 of 1, 2/3, 0, 1
    assert repeats + images == pytest.approx(0.25**2)
    freedom = 0.25**4 / (repeats**2 / 2 + images**2 / 3)
    assert freedom == pytest.approx(3.710, abs=1e-3)
    shift = t.ppf(0.975, freedom) * 0.25 / (2 / 3 * 1 / 3)

    mean, low, high = interval_of(correct)

    assert mean == pytest.approx(2 / 3)
    assert math.log(low / (1 - low)) == pytest.approx(math.log(2) - shift)
    assert math.log(high / (1 - high)) == pytest.approx(math.log(2) + shift)


def test_difference_of_a_worked_example_follows_the_formula() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 4, 60)) < np.array([0.9, 0.5])[:, None, None]
    d = a.astype(float) - b
    repeats = d.mean(axis=1).var(ddof=1) / 4
    images = d.mean(axis=0).var(ddof=1) / 60
    freedom = (repeats + images) ** 2 / (repeats**2 / 3 + images**2 / 59)
    half = t.ppf(0.975, freedom) * math.sqrt(repeats + images)
    expected = (d.mean(), d.mean() - half, d.mean() + half)
    assert difference_of(a, b) == pytest.approx(expected)


@pytest.mark.parametrize(("num_images", "low"), [(20, 0.8389), (100, 0.9630), (797, 0.9952)])
def test_perfect_score_leaves_open_what_so_many_images_leave_open(
    num_images: int, low: float
) -> None:
    interval = interval_of(np.ones((5, num_images)))
    assert interval == pytest.approx((1.0, low, 1.0), abs=1e-4)
    mirrored = interval_of(np.zeros((5, num_images)))
    assert mirrored == pytest.approx((0.0, 0.0, 1 - low), abs=1e-4)


def test_one_wrong_answer_never_narrows_the_interval() -> None:
    for num_images in (5, 20, 200):
        perfect = np.ones((5, num_images))
        flawed = perfect.copy()
        flawed[0, 0] = 0
        assert interval_of(flawed).low <= interval_of(perfect).low


def test_interval_of_one_repeat_counts_the_images_alone() -> None:
    correct = np.tile([[1.0] * 9 + [0.0]], (1, 20))
    same_every_time = np.repeat(correct, 5, axis=0)
    assert interval_of(correct) == pytest.approx(interval_of(same_every_time))
    mean, low, high = interval_of(correct)
    assert (mean, low, high) == pytest.approx((0.9, 0.850, 0.935), abs=1e-3)


def test_interval_of_one_image_counts_the_repeats_and_stays_wide() -> None:
    mean, low, high = interval_of(np.array([[1], [1], [1], [0]]))
    assert mean == 0.75
    assert low < 0.21
    assert high > 0.79


def test_interval_of_one_answer_excludes_little() -> None:
    assert interval_of(np.array([[1]])) == pytest.approx((1, 0.2065, 1), abs=1e-4)
    assert interval_of(np.array([[0]])) == pytest.approx((0, 0, 0.7935), abs=1e-4)


def test_answers_that_differ_in_cells_alone_still_have_an_interval() -> None:
    latin = np.tile([[1, 0], [0, 1]], (1, 50))
    mean, low, high = interval_of(latin)
    assert mean == 0.5
    assert (low, high) == pytest.approx((0.40, 0.60), abs=0.01)


def test_equal_answers_differ_by_exactly_nothing() -> None:
    correct = np.array([[1, 0, 1], [1, 1, 0]])
    assert difference_of(correct, correct) == (0, 0, 0)
    assert difference_of(np.array([[1]]), np.array([[1]])) == (0, 0, 0)


def test_difference_that_is_total_everywhere_is_still_uncertain() -> None:
    right, wrong = np.ones((3, 20)), np.zeros((3, 20))
    assert difference_of(right, wrong) == pytest.approx((1, 0.6777, 1), abs=1e-4)
    assert difference_of(wrong, right) == pytest.approx((-1, -1, -0.6777), abs=1e-4)


def test_difference_never_leaves_minus_one_to_one() -> None:
    right, wrong = np.ones((2, 5)), np.zeros((2, 5))
    wrong[0, 0] = wrong[0, 1] = 1
    assert difference_of(right, wrong).high == 1
    assert difference_of(wrong, right).low == -1


def test_single_paired_image_tells_nothing_apart() -> None:
    assert difference_of(np.array([[1]]), np.array([[0]])).holds_zero


def test_difference_that_cancels_in_every_mean_still_has_an_interval() -> None:
    right, wrong = np.ones((2, 100)), np.ones((2, 100))
    right[0, 0] = right[1, 1] = wrong[0, 1] = wrong[1, 0] = 0
    mean, low, high = difference_of(right, wrong)
    assert mean == 0
    assert (low, high) == pytest.approx((-0.028, 0.028), abs=1e-3)


def test_paired_difference_is_narrower_than_the_separate_one() -> None:
    hard = np.random.default_rng(1).random((1, 300)) < 0.2
    noise = np.random.default_rng(2).random((2, 5, 300)) < 0.02
    a, b = ~(hard | noise[0]), ~(hard | noise[1])
    paired = difference_of(a, b)
    separate = separate_difference(interval_of(a), interval_of(b))
    assert paired.mean == pytest.approx(separate.mean)
    assert paired.high - paired.low < 0.6 * (separate.high - separate.low)


def test_separate_difference_adds_the_squares_of_the_facing_sides() -> None:
    more, fewer = Interval(0.94, 0.91, 0.95), Interval(0.88, 0.80, 0.92)
    assert separate_difference(more, fewer) == pytest.approx((0.06, 0.01, 0.06 + math.sqrt(0.0065)))


@pytest.mark.parametrize(
    "bad", [np.ones(4), np.ones((0, 4)), np.full((2, 2), 1.5), np.full((2, 2), np.nan)]
)
def test_refuses_what_is_no_matrix_of_shares(bad: NDArray[np.float64]) -> None:
    with pytest.raises(ValueError, match=r"values: got shape .*\(R, N\) numbers from 0 to 1"):
        interval_of(bad)


def test_refuses_losses_below_nothing() -> None:
    with pytest.raises(ValueError, match=r"\(R, N\) numbers from 0 to inf"):
        interval_of(np.array([[-0.1]]), scale=Scale.LOSS)


def test_refuses_to_pair_different_shapes() -> None:
    with pytest.raises(ValueError, match=r"paired values: got shapes \(2, 3\) and \(3, 2\)"):
        difference_of(np.ones((2, 3)), np.ones((3, 2)))


def _balanced(values: NDArray[np.float64], classes: NDArray[np.int64]) -> NDArray[np.float64]:
    """(R,) means over the classes of the mean of each."""
    means = np.stack([values[:, classes == one].mean(axis=1) for one in np.unique(classes)])
    return np.asarray(means.mean(axis=0))


CLASSES = np.array([0] * 3 + [1] * 5 + [2] * 12)


def test_pseudo_values_of_a_mean_over_classes_are_those_of_leaving_one_image_out() -> None:
    values = np.random.default_rng(3).random((4, 20))
    score, n = _balanced(values, CLASSES), 20
    expected = np.stack(
        [
            n * score - (n - 1) * _balanced(np.delete(values, i, axis=1), np.delete(CLASSES, i))
            for i in range(n)
        ],
        axis=1,
    )
    found = outcomes_of(values, classes=CLASSES)
    assert found.pseudo == pytest.approx(expected, abs=1e-12)
    assert found.scores == pytest.approx(score, abs=1e-12)


def test_pseudo_values_of_a_mean_over_images_are_the_values() -> None:
    values = np.random.default_rng(4).random((3, 20))
    assert outcomes_of(values, classes=None).pseudo is values
    one_class = np.zeros(20, dtype=np.int64)
    assert outcomes_of(values, classes=one_class).pseudo == pytest.approx(values, abs=1e-12)
    assert interval_of(values, classes=one_class) == pytest.approx(interval_of(values), abs=1e-12)


def test_worked_example_of_a_mean_over_classes_follows_the_formula() -> None:
    correct = np.array([[1, 1, 0, 1, 1, 0, 1, 1], [1, 0, 0, 1, 1, 0, 1, 1]])
    classes = np.array([0] * 4 + [1] * 4)
    values = outcomes_of(correct.astype(float), classes=classes).pseudo
    repeats = values.mean(axis=1).var(ddof=1) / 2
    images = values.mean(axis=0).var(ddof=1) / 8
    freedom = (repeats + images) ** 2 / (repeats**2 + images**2 / 7)
    mean = _balanced(correct.astype(float), classes).mean()
    shift = t.ppf(0.975, freedom) * math.sqrt(repeats + images) / (mean * (1 - mean))
    interval = interval_of(correct, classes=classes)
    assert interval.mean == pytest.approx(mean)
    # Classes of four images show nearly all of their variance: what is added is below 2 %.
    found = [math.log(end / (1 - end)) - math.log(mean / (1 - mean)) for end in interval[1:]]
    assert found == pytest.approx([-shift, shift], rel=0.02)


def test_a_rare_class_counts_for_more_than_its_images() -> None:
    classes = np.array([0] * 5 + [1] * 95)
    common, rare = np.ones((3, 100)), np.ones((3, 100))
    rare[:, :2] = 0  # two of the five
    common[:, 5:7] = 0  # two of the ninety-five
    found = interval_of(rare, classes=classes)
    assert found.mean == pytest.approx((3 / 5 + 1) / 2)
    assert found.high - found.low > 2.5 * np.ptp(interval_of(common, classes=classes)[1:])
    assert interval_of(rare) == interval_of(common)


def test_a_perfect_score_of_few_images_in_a_class_leaves_more_open() -> None:
    even, uneven = np.array([0] * 50 + [1] * 50), np.array([0] * 4 + [1] * 96)
    right = np.ones((5, 100))
    assert interval_of(right, classes=even) == pytest.approx(interval_of(right))
    worth = 4 / (1 / 4 + 1 / 96)
    z2 = ndtri(0.975) ** 2
    assert interval_of(right, classes=uneven).low == pytest.approx(worth / (worth + z2))


def test_two_images_that_agree_are_no_certainty_of_their_class() -> None:
    rng = np.random.default_rng(5)
    classes = np.array([0] * 2 + [1] * 78)
    values = np.ones((5, 80))
    values[:, 2:] = rng.random(78) < 0.7
    found = interval_of(values, classes=classes)
    of_one_class = interval_of(values[:, 2:])
    assert found.high - found.low > of_one_class.high - of_one_class.low


def test_a_class_with_one_image_is_taken_to_vary_as_much_as_it_can() -> None:
    classes = np.array([0] + [1] * 200)
    values = np.ones((5, 201))
    values[:, 1:100] = 0
    low, high = interval_of(values, classes=classes)[1:]
    mean = (1 + 101 / 200) / 2
    least = 1.96 * math.sqrt(1 / 4 / 4)  # the largest variance of a share, of one class of two
    assert math.log(high / (1 - high)) - math.log(mean / (1 - mean)) > least / (mean * (1 - mean))
    assert low < 0.3
    other = values.copy()
    other[:, 150:] = 0
    assert difference_of(values, other, classes=classes).holds_zero
    assert not difference_of(values[:, 1:], other[:, 1:]).holds_zero


def test_a_loss_has_an_interval_that_is_symmetric_on_the_log_scale() -> None:
    values = np.random.default_rng(6).exponential(0.4, (5, 80))
    mean, low, high = interval_of(values, scale=Scale.LOSS)
    assert mean == pytest.approx(values.mean())
    assert 0 < low < mean < high
    assert high / mean == pytest.approx(mean / low)
    assert interval_of(np.zeros((2, 4)), scale=Scale.LOSS) == (0, 0, 0)


def test_a_difference_of_losses_is_plain_and_may_exceed_one() -> None:
    a, b = np.random.default_rng(7).exponential([[[3.0]], [[0.5]]], (2, 4, 60))
    found = difference_of(a, b, scale=Scale.LOSS)
    assert found.mean == pytest.approx(a.mean() - b.mean())
    assert found.low > 1
    assert found.negated == pytest.approx(difference_of(b, a, scale=Scale.LOSS))


def _draw(
    rng: np.random.Generator, accuracy: float, shape: tuple[int, int], spread: float
) -> tuple[Answers, Answers]:
    """Answers of two exchangeable configurations on one draw of labels and test images.

    An answer is right where a normal sum of repeat, image and cell effects is positive; half the
    variance of the first two is common to both. The true accuracy over fresh repeats and images is
    `accuracy` for both.
    """
    num_repeats, num_images = shape
    of_repeat = rng.standard_normal((3, num_repeats, 1)) * spread
    of_image = rng.standard_normal((3, 1, num_images))
    of_cell = rng.standard_normal((2, *shape)) * 0.5
    level = ndtri(accuracy) * math.sqrt(spread**2 + 1 + 0.25)
    effects = [(e[2] + e[:2]) / math.sqrt(2) for e in (of_repeat, of_image)]
    correct = level + effects[0] + effects[1] + of_cell > 0
    return correct[0], correct[1]


@pytest.mark.parametrize(
    ("accuracy", "shape", "spread"),
    [
        (0.60, (10, 200), 0.5),
        (0.75, (5, 80), 0.3),
        (0.88, (5, 797), 0.5),
        (0.95, (5, 20), 0.1),
        (0.97, (5, 797), 0.0),
        (0.97, (5, 797), 0.2),
        (0.99, (5, 80), 0.05),
        (0.95, (2, 80), 0.3),
    ],
)
def test_intervals_hold_the_truth_over_fresh_labels_and_fresh_images(
    accuracy: float, shape: tuple[int, int], spread: float
) -> None:
    rng = np.random.default_rng(20)
    covered = false_alarms = 0
    for _ in range(SIMULATIONS):
        one, other = _draw(rng, accuracy, shape, spread)
        interval = interval_of(one)
        covered += interval.low <= accuracy <= interval.high
        false_alarms += not difference_of(one, other).holds_zero
    assert covered / SIMULATIONS >= 0.92
    assert false_alarms / SIMULATIONS <= 0.06


def test_real_differences_are_found() -> None:
    rng = np.random.default_rng(21)
    found = 0
    for _ in range(100):
        better, _ = _draw(rng, 0.95, (5, 797), 0.1)
        worse, _ = _draw(rng, 0.88, (5, 797), 0.1)
        found += difference_of(better, worse).low > 0
    assert found >= 95
