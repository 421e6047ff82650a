#!/usr/bin/env bash
# The part of clickhouse/clickhouse-server's interface that tests need, over the engine as a library: native protocol on
# 9000, HTTP on 8123; CLICKHOUSE_DB, CLICKHOUSE_USER, CLICKHOUSE_PASSWORD; *.xml in /etc/clickhouse-server/config.d and
# users.d is merged; *.sql in /docker-entrypoint-initdb.d runs on an empty data directory.
#
# The engine runs as `clickhouse local` that opens its ports and then sleeps in a query. So no query_log or part_log, no
# replicated tables, no CREATE USER; a test must never kill that sleeping query.
set -euo pipefail
etc=/etc/clickhouse-server data=/var/lib/clickhouse log=/var/log/clickhouse-server
user=${CLICKHOUSE_USER:-default} level=${CLICKHOUSE_LOG_LEVEL:-information}
mkdir -p "$data" "$log" "$etc/config.d" "$etc/users.d"
# Quoted: an unquoted & in a replacement stands for what was matched.
xml() { local s=${1//&/'&amp;'}; s=${s//</'&lt;'}; printf %s "${s//>/'&gt;'}"; }

cat > "$etc/config.xml" <<X
<clickhouse>
  <logger><level>$level</level><log>$log/server.log</log><size>100M</size><count>2</count></logger>
  <path>$data/</path>
  <tcp_port>9000</tcp_port>
  <http_port>8123</http_port>
  <listen_host>0.0.0.0</listen_host>
  <users_config>$etc/users.xml</users_config>
  <default_replica_path>/clickhouse/tables/{uuid}/{shard}</default_replica_path>
  <default_replica_name>{replica}</default_replica_name>
  <macros><shard>01</shard><replica>r1</replica></macros>
</clickhouse>
X

# With a user of one's own, `default` stays for this container's own addresses.
rights='<profile>default</profile><quota>default</quota><access_management>1</access_management><named_collection_control>1</named_collection_control>'
password=$(xml "${CLICKHOUSE_PASSWORD:-}") everywhere='<networks><ip>::/0</ip></networks>'
if [ "$user" = default ]; then
    users="<default><password>$password</password>$everywhere$rights</default>"
else
    users="<default><password></password><networks><ip>127.0.0.1</ip><ip>::1</ip></networks>$rights</default>
    <$user><password>$password</password>$everywhere$rights</$user>"
fi
cat > "$etc/users.xml" <<X
<clickhouse>
  <profiles><default></default></profiles>
  <users>
    $users
  </users>
  <quotas><default></default></quotas>
</clickhouse>
X

sql=
db=${CLICKHOUSE_DB:-default}
[ "$db" = default ] || sql="CREATE DATABASE IF NOT EXISTS \`$db\`; "
if [ ! -d "$data/metadata" ]; then
    for f in /docker-entrypoint-initdb.d/*.sql; do [ ! -f "$f" ] || sql+="$(cat "$f"); "; done
fi
# HTTP opens last: an answer to /ping means that both ports are open.
sql+="SYSTEM START LISTEN TCP; SYSTEM START LISTEN HTTP; SELECT sleepEachRow(1) FROM numbers(1000000000)
    SETTINGS max_block_size = 1, function_sleep_max_microseconds_per_block = 3000000, max_execution_time = 0 FORMAT Null"
cd "$data"
export CHDB_LIB=/opt/clickhouse/lib/libchdb.so
exec /opt/clickhouse/bin/launcher "--config-file=$etc/config.xml" "--log-level=$level" --query "$sql"
