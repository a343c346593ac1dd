"""Augmentation: further rows made of an owner's rows; what each technique means for people, and what it was measured to do."""
