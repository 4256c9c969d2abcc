"""The language of rules by which a target misbehaves on order: what a rule is, how it is written, and which one fires.

`actions` is what can be done to a PDU or a command, `rules` what a rule looks at, `grammar` makes a rule of a line of
text, `rulebook` counts and decides. Nothing here touches a connection: `target.tap` does what a rule says.
"""
