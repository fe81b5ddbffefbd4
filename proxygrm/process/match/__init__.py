"""Whether two answers are the same: ours (`answers`), and the released comparison (`released`)."""
