#!/usr/bin/env bash
# Runs once inside the image's build: user, tool names, folders, and the class-data archive with which brokers start quickly.
set -euo pipefail
echo 'appuser:x:1000:1000::/home/appuser:/bin/bash' >> /etc/passwd
echo 'appuser:x:1000:' >> /etc/group
for t in kafka-topics kafka-configs kafka-storage kafka-console-producer kafka-console-consumer kafka-consumer-groups \
         kafka-transactions kafka-broker-api-versions kafka-dump-log kafka-metadata-quorum kafka-reassign-partitions \
         kafka-leader-election kafka-get-offsets kafka-delete-records kafka-acls kafka-features; do
    ln -s kafka-tool "/opt/kafka/bin/$t.sh"
done
mkdir -p /var/lib/kafka/data /mnt/shared/config /opt/kafka/logs /tmp/kafka-logs /home/appuser

# One start and clean stop records the classes that a broker loads; later starts map them (class-data sharing).
export KAFKA_NODE_ID=1 KAFKA_PROCESS_ROLES=broker,controller KAFKA_LISTENERS=PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093 \
    KAFKA_CONTROLLER_LISTENER_NAMES=CONTROLLER KAFKA_CONTROLLER_QUORUM_VOTERS=1@127.0.0.1:9093 KAFKA_LOG_DIRS=/tmp/cds-data \
    KAFKA_LISTENER_SECURITY_PROTOCOL_MAP=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT \
    KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR=1 KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR=1 KAFKA_TRANSACTION_STATE_LOG_MIN_ISR=1
KAFKA_CDS=dump bash /etc/kafka/docker/run > /tmp/cds.log 2>&1 & pid=$!
up=
for _ in $(seq 600); do
    if grep -q 'Kafka Server started' /tmp/cds.log; then up=1; break; fi
    kill -0 $pid 2>/dev/null || break
    sleep 0.2
done
[ -n "$up" ] || { cat /tmp/cds.log; exit 1; }
# The client and transaction paths too, so that the first produce is not the one that pays for them.
bin=/opt/kafka/bin server=127.0.0.1:9092
$bin/kafka-topics.sh --bootstrap-server $server --create --topic warm --partitions 1 >/dev/null
echo x | $bin/kafka-console-producer.sh --bootstrap-server $server --topic warm >/dev/null
timeout 30 $bin/kafka-console-consumer.sh --bootstrap-server $server --topic warm --from-beginning --max-messages 1 >/dev/null 2>&1 || true
kill -TERM $pid; wait $pid || true
cp /tmp/cds-data/bootstrap.checkpoint /opt/kafka/config/
ls -la /opt/kafka/kafka.jsa
rm -rf /opt/kafka/config/server.properties /tmp/cds-data /tmp/cds.log /tmp/hsperfdata_* /opt/kafka/logs/*
chown -R 1000:1000 /opt/kafka /var/lib/kafka /mnt/shared /tmp/kafka-logs /home/appuser
