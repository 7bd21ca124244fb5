"""The floors count the products that a pass over packed rows makes, neither more nor fewer."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from language.floors import llama_flops
from language.packing import pack_rows, packed_hidden
from language.rows import TokenRow
from tests.models import tiny_policy

ROWS = [TokenRow((1, *range(20, 34)), (60 + number, 61, 2)) for number in range(3)]


def test_a_pass_makes_the_products_of_its_floor() -> None:
    model, packed = tiny_policy(num_layers=3), pack_rows(ROWS)
    shape, tokens = model.config.to_dict(), len(packed.ids_T)
    for places_R in (packed.before_M, packed.last_B, None):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            packed_hidden(model.model, packed, places_R)
        counted = counter.get_flop_counts()["Global"][torch.ops.aten.mm]
        read = tokens if places_R is None else len(places_R)
        assert counted == llama_flops(shape, tokens=tokens, read=read)
