#!/bin/sh
# Runs the tests with Node alone; works from anywhere.
cd "$(dirname "$0")/.." && exec node --test
