"""The sensors that tell of failed runs and checks: exactly one looks at each finished run."""

import dagster as dg

from chart_platform.alerting.dispatch import deliver_pending, report
from chart_platform.alerting.runs import alert_for_run
from chart_platform.settings import get_settings

_INTERVAL_SECONDS = 10
_RETRY_INTERVAL_SECONDS = 30


def _report(context: dg.RunStatusSensorContext, failure: dg.DagsterEvent | None = None) -> None:
    settings = get_settings()
    repository = context.repository_def
    alert = alert_for_run(context.dagster_run, context.instance, repository, settings.dagster_base_url, failure)
    if alert is not None:
        report(alert, settings, context.log)


# The sensors return nothing, not even a SkipReason: among several runs in one tick Dagster fails the tick over it.
@dg.run_failure_sensor(
    description="One message for each failed run, with the checks that failed in it.",
    monitor_all_code_locations=True,
    minimum_interval_seconds=_INTERVAL_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def alert_on_failed_run(context: dg.RunFailureSensorContext) -> None:
    _report(context, context.failure_event)


@dg.run_status_sensor(
    run_status=dg.DagsterRunStatus.SUCCESS,
    description="One message for each green run in which a check failed that blocks nothing.",
    monitor_all_code_locations=True,
    minimum_interval_seconds=_INTERVAL_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def alert_on_failed_checks(context: dg.RunStatusSensorContext) -> None:
    _report(context)


@dg.sensor(
    description="Sends the alerts that Slack did not take at first.",
    minimum_interval_seconds=_RETRY_INTERVAL_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def alert_redelivery(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    return dg.SkipReason(deliver_pending(get_settings(), context.log))


alert_sensors: list[dg.SensorDefinition] = [alert_on_failed_run, alert_on_failed_checks, alert_redelivery]
