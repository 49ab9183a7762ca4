#!/bin/sh
# From Linux 6.4 on, ebtables-nft 1.8.9 cannot delete a rule with --among-src by its text: the kernel answers EINVAL. The
# Linux bridge agent does so whenever it looks at a port again, and repeats for ever what fails that way. Such a rule is
# deleted by its number here; everything else goes to ebtables-nft as it is.
set -eu
case " $* " in
*" -D "*" --among-src "*) ;;
*) exec ebtables-nft "$@" ;;
esac
table=filter
while [ "$1" != -D ]; do
    if [ "$1" = -t ]; then table=$2; fi
    shift
done
chain=$2
shift 2
number=$(ebtables-nft -t "$table" -L "$chain" --Ln | awk -v rule="$*" '
    { number = $1 + 0; sub(/^[0-9]+[. ] */, ""); sub(/ *$/, "") }
    $0 == rule { print number; exit }')
if [ -z "$number" ]; then
    echo "$chain has no rule $*" >&2
    exit 1
fi
exec ebtables-nft -t "$table" -D "$chain" "$number"
