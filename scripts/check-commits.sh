#!/usr/bin/env bash
# Holds commit messages against CONTRIBUTING.md: a subject `area: what` of at most 72 characters, an empty line, and a body
# that says why, in lines of at most 80 characters.
#
#     scripts/check-commits.sh [RANGE]    default: all commits since the rule is checked
set -euo pipefail
cd "$(dirname "$0")/.."

# The last commit before this script: older messages are as they are.
FIRST=a5c505bc4060d070a6e52a44b1151667963be494
SUBJECT_MAX=72
LINE_MAX=80

range=${1:-$FIRST..HEAD}
if ! commits=$(git rev-list --no-merges "$range" 2>/dev/null); then
    echo "$range is not in this clone: the messages were not checked"
    exit 0
fi
wrong=0
complain() {
    printf '%.12s: %s\n' "$1" "$2"
    wrong=1
}
for commit in $commits; do
    subject=$(git log -1 --format=%s "$commit")
    body=$(git log -1 --format=%b "$commit")
    [ "${#subject}" -le "$SUBJECT_MAX" ] || complain "$commit" "the subject has ${#subject} characters: $subject"
    [[ $subject =~ ^[a-z0-9_.,\ -]+:\ .+ ]] || complain "$commit" "the subject does not say the area first: $subject"
    [ -n "$body" ] || complain "$commit" "there is no body that says why: $subject"
    if awk -v max="$LINE_MAX" 'length($0) > max && $0 ~ / / { found = 1 } END { exit !found }' <<<"$body"; then
        complain "$commit" "a line of the body has more than $LINE_MAX characters: $subject"
    fi
done
[ "$wrong" = 0 ] && echo "$(wc -w <<<"$commits") commit messages are as CONTRIBUTING.md wants them"
exit "$wrong"
