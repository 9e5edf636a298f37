"""The metric as torch modules: `differentiable.QSiTModule`, `loss.QSiTLoss`, and `create.create_metric` as in pyiqa."""
