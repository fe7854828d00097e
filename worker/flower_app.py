"""The Celery application as Flower uses it: ``celery --app=worker.flower_app flower``.

Flower asks workers many things at once, each through two connections of the pool. With the workers' small pool
every question holds its first connection and waits for its second: for ever, and no event is shown.

Flower answers ``/metrics`` without its password; here it asks there, too. ``/healthcheck`` stays open and says "OK".
"""

from __future__ import annotations

from flower.views.monitor import Metrics
from tornado.web import authenticated

from worker.app import app

app.conf.broker_pool_limit = 64
Metrics.get = authenticated(Metrics.get)

__all__ = ["app"]
