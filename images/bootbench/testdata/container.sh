echo "bench: speaks"
trap 'exit 0' TERM INT
while :; do
    sleep 10 & wait $!
    while read key value unit; do
        case $key in
        MemTotal:) total=$value ;;
        MemAvailable:) available=$value ;;
        esac
    done </proc/meminfo
    echo "bench: used $((total - available)) kB"
done
