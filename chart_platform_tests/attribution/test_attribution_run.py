from __future__ import annotations
from chart_platform_tests.attribution.attribution_world import World, random_rows
from chart_platform_tests.transform.fixtures import NewHome

def test_tables_hold_what_the_oracle_says(new_home: NewHome) -> None:
    world = World(new_home())
    for table, rows in random_rows(1).items():
        world.put(table, rows)
    world.follow()
    world.assert_as_defined()
