"""Between rfray and a person: terminals and notebooks, Control-C, and how far a long step is."""
