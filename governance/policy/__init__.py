"""A party's own rules: which jobs run by themselves, which need people's approval, which are refused, and what they may cost."""
