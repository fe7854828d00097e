"""What the pages at ``/ops`` are made of: who is signed in, what needs attention, one VPS beside order and guest."""
