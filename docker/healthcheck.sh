#!/bin/bash
# Whether the gateway serves what was rendered. The image has no HTTP client, but bash opens sockets.
exec 3<>/dev/tcp/127.0.0.1/7086 || exit 1
printf 'GET /readyz HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n' >&3
read -r _ status _ <&3
[[ $status == 200 ]]
