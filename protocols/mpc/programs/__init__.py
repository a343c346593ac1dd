"""What each type of job computes, written against CrypTen's modules, autograd and optimiser on our shared tensors."""
