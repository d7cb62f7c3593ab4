"""How many examples a property gets whose every example is a sync of its own."""

import hypothesis

_USUAL = hypothesis.settings.get_profile("default").max_examples


def few(number: int) -> hypothesis.settings:
    """Return settings for so many examples; a profile that asks for more than usual, such as `long`, decides itself."""
    wanted = hypothesis.settings().max_examples
    return hypothesis.settings(
        max_examples=wanted if wanted > _USUAL else number,
        suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
    )
