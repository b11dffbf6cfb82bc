"""Train differentiable logic gate networks and ship them as verified boolean circuits."""
