# One image for every part of the panel: docker-compose.yml says which command each service runs.
FROM python:3.13-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY requirements/ requirements/
RUN python3 -m venv /opt/panel && /opt/panel/bin/pip install -q --require-hashes -r requirements/production.lock
ARG EXTRA=""
# The simulators of the demo profile need packages that production leaves out.
RUN if [ "$EXTRA" = demo ]; then /opt/panel/bin/pip install -q --require-hashes -r requirements/demo.lock; fi
COPY . .
RUN python3 -m venv /opt/builder \
 && /opt/builder/bin/pip install -q --require-hashes -r requirements/build.lock \
 && /opt/builder/bin/pip wheel -q --no-deps --no-build-isolation -w /tmp/dist . \
 && /opt/panel/bin/pip install -q --no-deps /tmp/dist/*.whl
# lab/ is in no wheel and in no production image.
RUN if [ "$EXTRA" = demo ]; then cp -r lab "$(/opt/panel/bin/python3 -c 'import api, pathlib; print(pathlib.Path(api.__file__).parents[1])')"; fi

FROM python:3.13-slim
RUN groupadd --gid 10001 panel && useradd --uid 10001 --gid panel --home-dir /var/lib/panel --create-home panel \
 && mkdir /var/lib/sim && chown panel:panel /var/lib/sim
COPY --from=build /opt/panel /opt/panel
ENV PATH=/opt/panel/bin:$PATH PYTHONUNBUFFERED=1 PANEL_DATA_DIR=/var/lib/panel HOST=0.0.0.0 FLOWER_ADDRESS=0.0.0.0 \
    PANEL_HEARTBEAT_FILE=/tmp/heartbeat
WORKDIR /var/lib/panel
USER panel
EXPOSE 5050 5555
CMD ["panel-sync", "--help"]
