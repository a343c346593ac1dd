"""Three rows under a contract of two features, as an owner writes them."""

from __future__ import annotations

SCHEMA = """\
api_version: confide/v1
kind: TableSchema
name: tumours
columns:
  - {name: radius, role: feature, type: float, range: ["0", "40"]}
  - {name: nodes, role: feature, type: integer, range: ["0", "10"]}
  - {name: benign, role: label, type: boolean}
"""
ROWS = "radius,nodes,benign\n10,5,true\n40,0,false\n31.337,2,true\n"
