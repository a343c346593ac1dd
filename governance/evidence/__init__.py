"""Evidence about model versions, and the gate that decides by it whether one may leave its shares."""
