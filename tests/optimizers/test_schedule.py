"""A schedule is a closed form of the step."""

import itertools
import math

import pytest
from helpers.configs import toy
from helpers.limits import within

from cleangpt.basics.schema import parse
from cleangpt.config.experiment import Config, resolve
from cleangpt.optimizers import schedule
from cleangpt.optimizers.settings import AccumRamp, DecayRamp, LrRamp, ScheduleConfig
from cleangpt.optimizers.styles import STYLES as STYLE_TABLE
from cleangpt.tasks import make

STYLES = ["linear", "cosine", "power"]
EVERY_STYLE = ["constant", *STYLES, "wsd"]
STEPS = [1, 2, 3, 4, 5, 7, 10, 19, 20, 21, 33, 100, 1000]


def ramp(style="linear", begin=1.0, end=0.25, warmup=0.0, decay=None, power=2.0) -> LrRamp:
    if style == "wsd" and decay is None:
        decay = 0.2
    settings = {"style": style, "begin": begin, "end": end, "warmup": warmup, "decay": decay, "power": power}
    return parse(settings, LrRamp)


def whole(steps, lr=None, weight_decay=None, grad_accum=None) -> ScheduleConfig:
    """A schedule over so many steps whose other quantities stay constant."""
    return ScheduleConfig(
        steps=steps,
        lr=lr or ramp("constant", end=1.0),
        weight_decay=weight_decay or DecayRamp(**ramp("constant", 0.1, 0.1).model_dump()),
        grad_accum=grad_accum or accumulation("constant", 1, 1),
    )


def accumulation(style, begin, end, **more) -> AccumRamp:
    return AccumRamp(**{**ramp(style, **more).model_dump(), "begin": begin, "end": end})


def values(of, steps) -> list[float]:
    return [schedule.value(of, step, steps) for step in range(1, steps + 1)]


def accums(of, steps) -> list[int]:
    return [schedule.at(whole(steps, grad_accum=of), step).grad_accum for step in range(1, steps + 1)]


# ---- both ends


@pytest.mark.parametrize("style", [*STYLES, "wsd"])
@pytest.mark.parametrize(("begin", "end"), [(1e-3, 0.0), (0.1, 0.3), (1 / 3, 1 / 7), (2.0, 2.0)])
def test_the_first_step_has_begin_and_the_last_has_end_exactly(style, begin, end):
    for steps in STEPS[1:]:
        found = values(ramp(style, begin, end), steps)
        assert found[0] == begin, steps
        assert found[-1] == end, steps


@pytest.mark.parametrize("style", EVERY_STYLE)
def test_a_run_of_one_step_has_begin(style):
    for warmup, decay in ((0.0, None), (0.05, None), (1.0, 0.0), (0.0, 1.0)):
        assert values(ramp(style, warmup=warmup, decay=decay), 1) == [1.0]


@pytest.mark.parametrize("style", EVERY_STYLE)
def test_step_one_never_has_a_learning_rate_of_zero(style):
    for steps, warmup in itertools.product(STEPS, (0.0, 0.01, 0.05, 0.3, 0.5, 0.99, 1.0)):
        for decay in (0.0, (1 - warmup) / 2, 1 - warmup):
            assert values(ramp(style, end=0.0, warmup=warmup, decay=decay), steps)[0] > 0, (steps, warmup, decay)


@pytest.mark.parametrize("style", EVERY_STYLE)
def test_no_value_is_beyond_begin_and_end_after_the_warm_up_and_all_move_one_way(style):
    for steps, warmup, (begin, end) in itertools.product(STEPS, (0.0, 0.05, 0.3), ((1e-3, 0.0), (0.1, 0.3))):
        found = values(ramp(style, begin, end, warmup), steps)[max(round(warmup * steps), 1) - 1 :]
        assert found[0] == begin
        assert found == sorted(found, reverse=end < begin)
        assert min(begin, end) <= min(found)
        assert max(found) <= max(begin, end)


@pytest.mark.parametrize("style", sorted(set(STYLE_TABLE) - {"constant"}))
def test_the_way_of_a_style_begins_at_0_and_ends_at_1_exactly(style):
    for power in (0.3, 1.0, 7.0):
        assert (STYLE_TABLE[style].way(0.0, power), STYLE_TABLE[style].way(1.0, power)) == (0.0, 1.0)


def test_any_quantity_may_stay_until_the_last_part_of_the_run():
    grows = accumulation("wsd", 1, 8, decay=0.25)
    found = accums(grows, 100)
    assert found[:75] == [1] * 75
    assert found[-1] == 8


# ---- warm-up


@pytest.mark.parametrize("style", EVERY_STYLE)
@pytest.mark.parametrize(("warmup", "steps"), [(0.05, 100), (0.25, 8), (0.5, 7), (1.0, 10), (0.1, 1000)])
def test_warm_up_is_a_straight_line_from_zero_to_begin(style, warmup, steps):
    last = round(warmup * steps)
    found = values(ramp(style, 3e-4, 0.0, warmup, 0.0 if warmup == 1 else None), steps)
    assert found[: last - 1] == pytest.approx([3e-4 * step / last for step in range(1, last)], rel=1e-12)
    assert found[last - 1] == 3e-4


def test_constant_stays_at_begin_after_its_warm_up():
    found = values(ramp("constant", 0.5, 0.0, 0.1), 50)
    assert found == pytest.approx([0.1, 0.2, 0.3, 0.4] + [0.5] * 46, rel=1e-12)
    assert found[4:] == [0.5] * 46


def test_a_warm_up_shorter_than_half_a_step_is_none():
    assert values(ramp("linear", 1.0, 0.0, 0.01), 5) == values(ramp("linear", 1.0, 0.0), 5)


# ---- the way from begin to end


@pytest.mark.parametrize("steps", [2, 10, 77])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.4])
@pytest.mark.parametrize(
    ("style", "power", "way"),
    [
        ("linear", 2.0, lambda p: p),
        ("cosine", 2.0, lambda p: 0.5 - 0.5 * math.cos(math.pi * p)),
        ("power", 0.5, math.sqrt),
        ("power", 1.0, lambda p: p),
        ("power", 2.0, lambda p: p * p),
        ("power", 3.0, lambda p: p**3),
    ],
)
def test_a_style_is_its_closed_form(style, power, way, warmup, steps):
    first = max(round(warmup * steps), 1)
    found = values(ramp(style, 0.9, 0.2, warmup, power=power), steps)
    for step in range(first, steps + 1):
        assert found[step - 1] == pytest.approx(0.9 + (0.2 - 0.9) * way((step - first) / (steps - first)), rel=1e-12)


def test_cosine_is_half_way_in_the_middle():
    assert values(ramp("cosine", 1.0, 0.0), 101)[50] == pytest.approx(0.5)


@pytest.mark.parametrize("style", STYLES)
def test_decay_is_the_fraction_of_the_run_that_leads_from_begin_to_end(style):
    found = values(ramp(style, 1.0, 0.25, warmup=0.2, decay=0.5), 100)
    assert found[19] == 1.0
    assert 0.25 < found[68] < found[20] < 1.0
    assert found[69:] == [0.25] * 31
    whole_way = values(ramp(style, 1.0, 0.25), 51)
    assert found[19:70] == pytest.approx(whole_way, rel=1e-12)


@pytest.mark.parametrize("style", STYLES)
def test_a_decay_of_all_that_is_left_is_the_same_as_none_given(style):
    given = values(ramp(style, warmup=0.2, decay=0.8), 50)
    assert given == values(ramp(style, warmup=0.2), 50)


def test_wsd_stays_at_begin_until_the_last_fraction_and_falls_in_a_straight_line():
    found = values(ramp("wsd", 1.0, 0.0, warmup=0.1, decay=0.25), 200)
    assert found[19:150] == [1.0] * 131
    assert found[150:] == pytest.approx([1 - step / 50 for step in range(1, 51)], abs=1e-12)
    assert found[-1] == 0.0


def test_wsd_that_decays_over_the_whole_run_is_linear():
    assert values(ramp("wsd", decay=1.0), 40) == values(ramp("linear"), 40)


def test_wsd_reaches_its_end_in_a_run_that_is_too_short_for_its_fraction():
    for steps in range(2, 20):
        assert values(ramp("wsd", 1.0, 0.0, decay=0.02), steps)[-1] == 0.0, steps


# ---- accumulation and weight decay


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(("begin", "end"), [(1, 8), (8, 1)])
def test_accumulation_takes_every_whole_number_from_begin_to_end_in_order(style, begin, end):
    for steps in (60, 100, 999):
        found = accums(accumulation(style, begin, end), steps)
        assert (found[0], found[-1]) == (begin, end)
        passed = [number for number, _ in itertools.groupby(found)]
        assert passed == sorted(range(1, 9), reverse=end < begin)
        assert {type(number) for number in found} == {int}


@pytest.mark.parametrize("style", STYLES)
def test_accumulation_reaches_its_end_in_a_run_with_fewer_steps_than_numbers(style):
    for steps in range(2, 9):
        found = accums(accumulation(style, 1, 8), steps)
        assert (found[0], found[-1]) == (1, 8)
        assert found == sorted(found)


def test_linear_accumulation_is_rounded_to_the_nearest_whole_number():
    expected = [math.floor(1 + 7 * (step - 1) / 99 + 0.5) for step in range(1, 101)]
    assert accums(accumulation("linear", 1, 8), 100) == expected
    assert [expected.count(number) for number in range(1, 9)] == [8, 14, 14, 14, 14, 14, 14, 8]


def test_accumulation_by_a_power_spends_longer_on_small_numbers():
    slow = accums(accumulation("power", 1, 8, power=3.0), 300)
    even = accums(accumulation("linear", 1, 8), 300)
    assert all(a <= b for a, b in zip(slow, even, strict=True))
    assert slow.count(1) > 4 * even.count(1)


def test_accumulation_is_never_less_than_one_micro_step():
    assert accums(accumulation("constant", 1, 1, warmup=1.0, decay=0.0), 20) == [1] * 20


def test_the_three_quantities_move_on_their_own():
    config = whole(
        40,
        lr=ramp("cosine", 1e-3, 0.0, warmup=0.1),
        weight_decay=DecayRamp(**ramp("linear", 0.0, 0.5).model_dump()),
        grad_accum=accumulation("power", 1, 4),
    )
    for step in range(1, 41):
        now = schedule.at(config, step)
        assert now.lr == schedule.value(config.lr, step, 40)
        assert now.weight_decay == pytest.approx(0.5 * (step - 1) / 39)
        assert now.grad_accum == math.floor(1 + 3 * ((step - 1) / 39) ** 2 + 0.5)


@pytest.mark.parametrize("style", ["constant", *STYLES])
@pytest.mark.parametrize("steps", [1, 2, 9, 50])
def test_the_micro_steps_before_a_step_are_the_sum_of_those_of_all_steps_before_it(style, steps):
    config = whole(steps, grad_accum=accumulation(style, 2, 7, warmup=0.2))
    running = 0
    for step in range(1, steps + 1):
        assert schedule.micro_steps_before(config, step) == running
        running += schedule.at(config, step).grad_accum
    assert schedule.micro_steps_before(config, steps + 1) == running


@pytest.mark.parametrize(("style", "end"), [("constant", 2), ("cosine", 7), ("linear", 100_000)])
def test_the_micro_steps_of_more_steps_than_anyone_takes_are_known_at_once(style, end):
    steps = 10**15
    config = whole(steps, grad_accum=accumulation(style, 2, end))
    with within(20):
        found = schedule.micro_steps_before(config, steps + 1)
    assert found == pytest.approx(steps * (2 + end) / 2, rel=1e-3)


# ---- from conf/


@pytest.mark.parametrize("option", ["constant", "linear", "cosine", "power", "wsd"])
def test_a_schedule_of_conf_begins_with_the_optimizer_and_reaches_its_end(option):
    keys = {"optimizer.lr": 0.01, "optimizer.weight_decay": 0.2, "train.steps": 100}
    config = parse(toy(f"schedule={option}", **keys), Config)
    config = resolve(config, make(config.dataset))
    found = [schedule.at(config.schedule, step) for step in range(1, 101)]
    assert found[4].lr == max(now.lr for now in found) == 0.01
    assert found[0].lr == pytest.approx(0.01 / 5)
    assert found[-1].lr == (0.01 if option == "constant" else 0.0)
    assert {(now.weight_decay, now.grad_accum) for now in found} == {(0.2, 1)}


@pytest.mark.parametrize("option", ["constant", "linear", "cosine", "power", "wsd"])
def test_how_far_a_schedule_is_stretched_does_not_depend_on_how_long_a_run_is(option):
    def made(steps, horizon):
        found = parse(toy(f"schedule={option}", **{"train.steps": steps, "schedule.steps": horizon}), Config)
        return resolve(found, make(found.dataset)).schedule

    whole_run, cut_off, longer = made(60, None), made(20, 60), made(90, 60)
    assert whole_run.steps == 60
    for step in range(1, 61):
        assert schedule.at(whole_run, step) == schedule.at(cut_off, step) == schedule.at(longer, step)
    assert schedule.at(longer, 61) == schedule.at(longer, 90) == schedule.at(longer, 60), "what it ends with stays"
    said = [sentence for sentence in schedule.ignored(longer, 90) if "the learning rate is 0" in sentence]
    assert len(said) == (option != "constant")
    assert not any("the learning rate is 0" in sentence for sentence in schedule.ignored(whole_run, 60))
