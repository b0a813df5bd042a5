#!/bin/bash
echo "template for $name" > template.txt
