#!/bin/bash
echo "hello $1 from bin"
