"""The records that travel through the house: frozen, slotted dataclasses, standard library only."""
