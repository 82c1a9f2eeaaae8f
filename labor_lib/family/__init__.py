"""The wider family: image classification with DANN, CCSA, SagNet and the baselines beside them.

config      settings of every shift          registry    the methods, their networks
data        what a phase trains on           train       the loop, accuracy
experiment  all phases of a run folder       runs        open a run folder and look at it
report      tables for README.md             viz         figures
guide       which method to choose           widgets     views to play with
alignment   CCSA in two dimensions, for its playground

The methods themselves lie in `labor_lib.methods`, the images in `labor_lib.data`.
"""
