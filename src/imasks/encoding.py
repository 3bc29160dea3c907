"""The names of the three tasks, and the one encoding that all discrete masks have inside.

Label planes are uint8 [..., P, H, W], with P = 1 for binary and multiclass and one plane a class
for multilabel, whatever values the user's mask files hold:

* binary and multilabel planes hold 0 and 1;
* the multiclass plane holds k + 1 for the user's class k; 0, RESERVED, stands for the inconsistency
  mask;
* IGNORE marks pixels that take no part in loss or score, whatever the task.

Soft labels are uint8 [..., C, H, W], one plane a network output: probabilities in steps of
1 / SURE, the reserved index getting none; IGNORE marks pixels without one.
"""

from typing import Literal

TaskName = Literal["binary", "multiclass", "multilabel"]

RESERVED = 0
IGNORE = 255
SURE = 254
