"""Runs of agents killed at random instants: what is lost, and what is done twice."""
