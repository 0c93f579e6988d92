# Waits until its standard input closes, which happens when the lab is dropped and also when
# its process is killed; then ends what is still running and removes the lab's folder.
#
# Arguments: the folder. Input: "+ PID" when a process starts, "- PID" when it was reaped.

home=$1
trap '' HUP INT QUIT TERM
jobs=' '
while read -r sign id; do
    case $sign in
        +) jobs="$jobs$id " ;;
        -) jobs="${jobs%% "$id" *} ${jobs#* "$id" }" ;;
    esac
done

# A process and its children. (Each child of a server is a session of its own.)
family() {
    echo "$1"
    cat "/proc/$1/task/$1/children" 2>/dev/null || pgrep -P "$1"
}

# Nobody may be there to reap it any more: a zombie has ended.
runs() {
    kill -0 "$1" 2>/dev/null && ! grep -qs '^State:.Z' "/proc/$1/status"
}

for id in $jobs; do
    # A stopped process takes no signal but this one. QUIT ends a server at once, with its
    # children and its shared memory.
    kill -s CONT $(family "$id") 2>/dev/null
    kill -s TERM "$id" 2>/dev/null
    kill -s QUIT "$id" 2>/dev/null
done
rounds=0
for id in $jobs; do
    while runs "$id"; do
        rounds=$((rounds + 1))
        if [ "$rounds" -gt 200 ]; then
            kill -s KILL $(family "$id") 2>/dev/null
            break
        fi
        sleep 0.03
    done
done

# A server that was killed leaves its lock file, and in it the number of its shared memory.
for file in "$home"/*/data/postmaster.pid; do
    [ -f "$file" ] || continue
    set -- $(sed -n 7p "$file")
    [ -n "$2" ] && ipcrm -m "$2" 2>/dev/null
done

rounds=0
while rm -rf "$home" 2>/dev/null; [ -e "$home" ]; do
    rounds=$((rounds + 1))
    [ "$rounds" -gt 20 ] && exit 1
    sleep 0.1
done
