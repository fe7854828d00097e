"""Celery's settings. Each prevents a fault that was seen to lose or double work; see docs/runtime.md.

The settings give the broker's URL when the application is made, so there is no URL here.
"""

from kombu import Queue

# --- delivery: at least once, and nothing depends on it (PostgreSQL holds what must be done)
task_acks_late = True
task_reject_on_worker_lost = True
task_retry_on_worker_lost = True
task_acks_on_failure = True
task_acks_on_timeout = True
worker_prefetch_multiplier = 1
task_ignore_result = True  # PostgreSQL holds the results; a result backend costs a fifth to a third of the throughput
task_store_errors_even_if_ignored = False

# --- queues: a sync call never waits behind a long reconcile run, nor a power action behind either, nor any of them
# behind graphs that somebody looks at or a main site that takes its events slowly
task_queues = tuple(Queue(name) for name in ("sync", "reconcile", "power", "statistics", "webhooks"))
task_default_queue = "sync"
task_create_missing_queues = False
task_routes = {f"{name}.*": {"queue": name} for name in ("sync", "power", "statistics", "webhooks")} | {
    f"{name}.*": {"queue": "reconcile"} for name in ("reconcile", "users", "findings", "maintenance")
}

# --- limits
task_soft_time_limit = 20
task_time_limit = 30
broker_transport_options = {
    # Longer than every time limit but a full run's. A run delivered twice finds its lease taken and ends.
    "visibility_timeout": 120,
    "unacked_restore_interval": 10,
    "unacked_restore_throttle": 1,
    "socket_timeout": 5,
    "socket_connect_timeout": 2,
    "socket_keepalive": True,
    "health_check_interval": 5,
    "max_retries": 1,
}
broker_connection_retry_on_startup = True
broker_connection_max_retries = None
broker_channel_error_retry = True  # what Redis refuses now (a replica, full memory) it may take later
broker_connection_timeout = 2
broker_pool_limit = 4
broker_pool_acquire_timeout = 2
worker_consumer = "worker.consumer:Consumer"  # survives the loss of Redis with messages in hand
worker_cancel_long_running_tasks_on_connection_loss = False
worker_soft_shutdown_timeout = 8
# An idle worker may end at once: the journal sends again anything it would hand back. True would cost the whole soft
# shutdown for every worker at every stop.
worker_enable_soft_shutdown_on_idle = False

# --- beat: the settings also say what is due when (worker.schedule)
beat_scheduler = "worker.beat:Scheduler"  # one at a time, by seconds that no change of the clock affects

# --- Flower
task_send_sent_event = True  # the setting TASK_EVENTS says whether workers send events, too

# --- the rest
task_serializer = "json"
accept_content = ["json"]
enable_utc = True
timezone = "UTC"
worker_hijack_root_logger = False
worker_max_tasks_per_child = 10_000
