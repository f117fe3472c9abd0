"""Rules on transfer learning: what is taken over, and what of it is trained."""
