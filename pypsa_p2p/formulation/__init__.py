"""Markets as linopy variables, constraints and costs."""
