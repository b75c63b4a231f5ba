"""The published prompt for one question about an image, word for word (MLLM-DataEngine, opendatalab, Apache-2.0).

Several lines end in a space, and one word is misspelt: the published answers were written to this text.
"""
# ruff: noqa: E501, W291

from __future__ import annotations

TEMPLATE = """
You are an AI visual assistant that can generate certain type of high-quality Q&A about the images. You will always perform as if you are directly seeing an image. 

Goals: 
I will give you some information about this image, along with a question type. Your task is to generate a high-quality Q&A of this question type based on the image information provided. The question should be followed by four answer choices, with only one correct answer, along with an explanation. 

The image information includes 5 descriptions and the locations of specific objects within the image given in the form of bounding boxes. The bounding boxes coordinates are represented as (x1, y1, x2, y2) with floating numbers ranging from 0 to 1. These values correspond to the top left x, top left y, bottom right x, and bottom right y. 

Rules (If not specified, the following rules apply to all texts you generate): 
(1) Summarize the information provided by image descriptions and objects locations of this image to generate the high-quality Q&A, which should reflect the content of the image. 
(2) Don't generate imaginative or irrelevant content. Ensure all questions, answers, and explanations are strictly based on the information available in the image descriptions and object locations. Do not invent or speculate on details that are not contained in the provided image descriptions and object locations. Bounding boxes or objects not mentioned in the image information should not be generated. 
(3) You must always generate your responses as if you are directly viewing the image, not reading the image descriptions or object locations. Do not mention or refer to the image descriptions in your responses. Avoid phrases such as "based on the description" or "according to the image information" in your explanations. Instead, use phrases like "upon observing the image" or "by looking at the image".  
(4) Do not ask questions that you cannot answer accurately with the given information. 
(5) In the choices, there should be only one correct answer to the question. At the same time, other choices should also be relevant to the question. 
(6) The question you ask should be also answerable without choices. 
(7) Be sure to structure your questions and answers according to the question type. If you find the requested type of question can't be accurately produced from the image information, please state 'Skip' and provide an explanation. 
(8) Don't give any clues or given conditions in question. Invoke visual information as much as possible. When asking questions about a certain object, if necessary, don't mention the name of it directly, but refer to it using its location described in natural language and characterization in the image, followed by its bounding box. When referring to a type of object that occur multiple times in the image (like 'person'), use specific characteristics given in the image descriptions to identify them properly. 
(9) The bounding boxes should not be used as the main identifying feature of the objects in the scene, but rather as a supplement to descriptive identifiers.
(10) Don't ask questions about object size or distance unless there's ample evidence in the image descriptions about object scale or spatial relations. Bounding box details should not be used to infer the sizes or shapes of the objects, becase it is in 2D but the the objects are in complex 3D scenes. Instead of asking "Which is larger?", you can ask "Which object occupies a larger area of the image?" 
(11) Avoid questions that might be confusing due to similar objects. If bounding boxes are too small or numerous, the AI should avoid forming questions about those objects to avoid confusion. 
(12) Do not mention or refer to the image descriptions in your responses.

Here is an example: 
Image information: 
(1) Image description: 
A photo of two youth soccer teams competing. 
Little kids play a game of soccer in a field. 
A group of young men kicking around a ball. 
The small children play soccer on a sunny day. 
Children run after a soccer ball in the grass. 

(2) Objects locations, in the form of bounding box (object: [x1, y1, x2, y2]): 
sports ball: [0.324, 0.769, 0.44, 0.933] 
person: [0.003, 0.011, 0.202, 0.793] 
person: [0.125, 0.053, 0.414, 0.868] 
person: [0.41, 0.001, 0.658, 0.886] 
person: [0.36, 0.002, 0.476, 0.329] 
person: [0.187, 0.0, 0.416, 0.258] 
person: [0.965, 0.003, 1.0, 0.219] 

Question: Who is more likely to kick the sports ball [0.324, 0.769, 0.44, 0.933] next? 
Choices: (A) The person located to the far left side of the image [0.003, 0.011, 0.202, 0.793] (B) The person located closer to the center of the image [0.125, 0.053, 0.414, 0.868] (C) The person located to the far right side of the image [0.965, 0.003, 1.0, 0.219] (D) The person located closer to the bottom of the image [0.41, 0.001, 0.658, 0.886] 
Answer: The answer is (B): The person located closer to the center of the image [0.125, 0.053, 0.414, 0.868]. 
Explanations: Based on the distance between the soccer players and the ball in the image, the player closer to the center of the image [0.125, 0.053, 0.414, 0.868] appears to be in the best position to make the next move on the sports ball [0.324, 0.769, 0.44, 0.933]. The player to the far right [0.965, 0.003, 1.0, 0.219] seems too far away, and the players at the bottom [0.41, 0.001, 0.658, 0.886] and far left [0.003, 0.011, 0.202, 0.793] of the image look to be at a disadvantageous position to kick the ball next. 

Here is the Image information that I want you to generate high-quality {type} Q&A from: 
(1) Image description: 
{captions} 

(2) Objects locations, in the form of bounding box (object: [x1, y1, x2, y2]): 
{boxes} 

The question type I require is {type} question. {explanation} Following are two examples of the {type} question: 
Example 1: 
{example1} 
Example 2: 
{example2} 

Now you can start to generate one high-quality {type} Q&A about the image according to the image information I gave you.

"""
